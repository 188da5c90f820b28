"""What is watched: asset checks made from the tables' declarations, and freshness policies."""
