"""Parts of pages: self-contained HTML from plain data. Nothing here knows a stage."""
