"""What is measured on pictures: one file a metric."""
