"""What the tools share: arguments, configs, studies."""
