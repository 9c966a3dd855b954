.PHONY: setup test check
setup: .venv/.done
