"""What is shown: tables, pictures, pages, and the sidecar beside an erasure."""
