"""Everything that changes parameters."""
