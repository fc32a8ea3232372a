"""What a cloud says: predictions, evidence, diagnostics, the law of a site."""
