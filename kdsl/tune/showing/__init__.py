"""Progress while tuning, plots and the HTML report."""
