"""Published data sets, read from the files in which their authors distribute them."""
