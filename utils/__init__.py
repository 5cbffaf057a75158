"""The ground floor: files, logs, text, processes, errors and options. Imports nothing else of the project."""
