"""What people and programs read: the tables as SQL, the warehouse's file, the questions of the pages, the interface."""
