"""What an audit leaves behind: figures, rows, plots and a page to read."""
