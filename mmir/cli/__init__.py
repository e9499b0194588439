"""Shared code of the tools: arguments, configs, studies."""
