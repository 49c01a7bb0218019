"""`import moviepy.editor` after `import dnnlib`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_it_has_the_names_of_moviepy():
    done = run(
        "import dnnlib; print('moviepy' in sys.modules); import moviepy, moviepy.editor as e; "
        "print(e.VideoClip is moviepy.VideoClip, e.ImageSequenceClip is moviepy.ImageSequenceClip)"
    )
    assert done.stdout.split() == ["False", "True", "True"], done.stderr


def test_an_editor_of_moviepy_itself_wins(tmp_path):
    """moviepy 1 has one."""
    (tmp_path / "moviepy").mkdir()
    (tmp_path / "moviepy" / "__init__.py").touch()
    (tmp_path / "moviepy" / "editor.py").write_text("name = 'own'\n")
    done = run(f"import dnnlib; sys.path.insert(0, {str(tmp_path)!r}); import moviepy.editor as e; print(e.name)")
    assert done.stdout == "own\n", done.stderr


def test_other_missing_modules_stay_missing():
    done = run("import dnnlib; import moviepy.nothing")
    assert done.returncode == 1 and "No module named 'moviepy.nothing'" in done.stderr
