"""Prepared data: recipes from official files to tiles, the manifest that lists them, and their reader."""
