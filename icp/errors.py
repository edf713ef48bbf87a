"""Every error that `icp` raises on purpose: one sentence with the value and the way out."""


class IcpError(Exception):
    """Base class. The command line prints its message and exits with status 1."""


class ModelError(IcpError):
    """A model that cannot be found, read, or matched to an architecture row."""


class UnitError(IcpError):
    """An address, site, or kind of unit that the model does not have."""


class ProbeError(IcpError):
    """Inputs, answers, or counterparts that cannot be measured as they stand."""


class DataError(IcpError):
    """A data set that cannot be found, or that does not have its published schema."""


class NotFiniteError(IcpError):
    """The model returned NaN or an infinity where a number was to be read."""


class ArtefactError(IcpError):
    """A stored file that is truncated, of another version, or bound to something else."""


class PruneError(IcpError):
    """A cut that the architecture's weights or configuration cannot express."""


class SensitivityWarning(UserWarning):
    """While training, a model grew less sensitive to the cause (`icp.PairWatch`)."""


class SpecError(IcpError):
    """A causal spec that contradicts itself, the data, or what is asked of it."""


class EndpointError(IcpError):
    """A served model that cannot be reached, or does not answer as its protocol says."""


class NoAnswerError(EndpointError):
    """A served model that does not answer one text, and may answer others; `late` where it took too long."""

    def __init__(self, told: str, late: bool = False):
        super().__init__(told)
        self.late = late
