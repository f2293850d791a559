"""What trains: epochs that stop and resume, the bilevel search, the training of what is implanted."""
