"""Text of self-contained HTML pages and their charts; what stands on a page is decided by those who own the numbers."""
