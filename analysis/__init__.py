"""One script per figure: it runs a study, stores the data, and draws."""
