"""What speaks to providers: one provider per file, behind the protocols of ``base``."""
