"""All that changes parameters."""
