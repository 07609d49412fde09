"""What hostile input, hostile callers and hostile pages cannot do."""
