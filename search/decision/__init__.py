"""What is recommended: prices and budgets, the short list, the last doubts, and the table beside it."""
