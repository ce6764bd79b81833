"""Numbers of other libraries' code, recorded once; tests read the records."""
