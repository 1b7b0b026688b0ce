"""Maps a spec to its training task, by role."""

from sskd.runs.spec import HeadSpec, StudentSpec, TeacherSpec
from sskd.training.setup import Setup
from sskd.training.tasks.head import HeadTask
from sskd.training.tasks.stage import TrainingTask
from sskd.training.tasks.student import StudentTask
from sskd.training.tasks.teacher import TeacherTask


def build_task(setup: Setup) -> TrainingTask:
    """Builds the task of the setup's spec. Raises UserError if weights that it needs are missing."""
    match setup.spec:
        case HeadSpec() as spec:
            return HeadTask(setup, spec)
        case StudentSpec() as spec:
            return StudentTask(setup, spec)
        case TeacherSpec() as spec:
            return TeacherTask(setup, spec)
