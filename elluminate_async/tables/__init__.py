"""Tables: rows in from any library, results out to any; layer L1."""
