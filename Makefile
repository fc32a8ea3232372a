.PHONY: check format lint types test picture notebooks site

check: lint types test

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .

types:
	python .ci/typecheck_tree.py
	cd .typecheck && mypy --config-file ../pyproject.toml -p aif_dcpc

test:
	python -m pytest -n 2

picture:
	python docs/picture.py

notebooks:
	python docs/notebooks/notebooks.py

site:
	python .ci/typecheck_tree.py
	mkdocs build --strict
