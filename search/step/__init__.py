"""One step: what the frozen host computes once, losses and gradients, and what is kept in memory."""
