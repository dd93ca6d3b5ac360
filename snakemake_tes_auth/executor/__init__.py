"""The executor plugin: jobs become TES tasks."""
