"""Who may pass: the rules before every handler. Knows no stream and no bus."""

from starlette.requests import Request
from starlette.responses import Response

from stagecast.domain.access import Access, AccessPolicy, AccessRequest
from stagecast.domain.errors import AccessDenied, Unauthenticated
from stagecast.domain.topics import Topic

from .access import is_public, token_of
from .refusals import refused, unauthenticated


class Denied(Exception):
    """The request is refused; `answer` says why."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class Gate:
    """Without a policy only this machine passes, unless `allow_public`; `guarded` asks the policy."""

    def __init__(self, policy: AccessPolicy | None, *, guarded: bool, allow_public: bool) -> None:
        self._policy, self._guarded, self._allow_public = policy, guarded, allow_public

    async def admit(self, request: Request, topic: Topic) -> Access | None:
        """What the policy grants; None where it is not asked. Raises Denied."""
        if self._policy is None and not self._allow_public and is_public(request.scope):
            detail = "without an access policy only loopback is served: set STAGECAST_JWT_SECRET"
            raise Denied(refused(request, 403, detail))
        if not self._guarded:
            return None
        token = token_of(request)
        try:
            if self._policy is None:
                raise Unauthenticated("this server has no access policy: set STAGECAST_JWT_SECRET")
            asked = AccessRequest(project=topic.project, stage=topic.stage, token=token)
            return await self._policy.authorize(asked)
        except Unauthenticated as error:
            raise Denied(unauthenticated(request, error, had_token=token is not None)) from error
        except AccessDenied as error:
            raise Denied(refused(request, 403, str(error))) from error
