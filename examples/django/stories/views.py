"""A page, and the view that lets a worker rewrite a project's story."""

from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from stories.tasks import execute_llm_stage


@require_GET
def index(request):
    return render(request, "stories/index.html")


@require_POST
def rewrite(request, project_id):
    """Enqueue the task, and tell where its progress is to be seen."""
    execute_llm_stage.delay(project_id, "rewrite", {"prompt": request.POST.get("prompt", "改写")})
    return JsonResponse({"stream": f"/api/v1/sse/projects/{project_id}/stages/rewrite/"}, status=202)
