"""The slides' evaluation as suites: what is drawn, by whom it is judged, and the tables that come of it."""
