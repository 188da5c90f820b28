"""What people read: metrics and the tables they come from."""
