"""Cases that other systems' authors wrote, run against our definitions; the cases are read, never copied."""
