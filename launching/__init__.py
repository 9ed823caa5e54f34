"""Job files for launchers: a module and a template for each."""
