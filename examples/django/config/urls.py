"""Django's URLs. Those of the streams are stagecast's: see asgi.py."""

from django.urls import path
from stories import views

urlpatterns = [
    path("", views.index),
    path("projects/<slug:project_id>/rewrite/", views.rewrite),
]
