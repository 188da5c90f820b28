"""What tests share: records to draw from, a lake to write to, and what should come out, in plain Python."""
