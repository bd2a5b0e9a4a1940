"""convexnn: shallow neural networks trained by convex programs, with evidence for every number."""
