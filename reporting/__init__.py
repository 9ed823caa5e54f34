"""Pages, plots and tables of findings and results."""
