"""What libraries do with bf16, and why it differs from the specification where it does."""
