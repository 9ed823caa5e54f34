"""Pages, plots and tables, made from findings and results."""
