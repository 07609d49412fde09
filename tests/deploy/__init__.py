"""The files of deploy/: run where that is possible here, else parsed and held against what stagecast has."""
