.PHONY: check format lint types test

check: lint types test

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .

types:
	python tests/typecheck.py

test:
	python -m pytest -n 2
