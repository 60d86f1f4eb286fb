"""Private helpers shared by every stage. No formula lives here."""
