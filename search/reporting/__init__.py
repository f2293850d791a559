"""report.html: what a run did, for a person."""
