"""The bus on Redis 7.0 or newer, or Valkey: a log and a feed a project."""
