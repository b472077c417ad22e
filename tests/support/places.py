"""Where the tests' own files are."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
FAKES, PARTS = TESTS / "fakes", TESTS / "parts"
STUB_ENGINE, SITE = FAKES / "stub_engine.py", FAKES / "site"
GENAI_BENCH = FAKES / "bench" / "genai-bench"
OME_CRDS = PARTS / "ome-crds" / "v0.1.5"
