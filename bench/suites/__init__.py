"""The suites that come with the package, as TOML."""
