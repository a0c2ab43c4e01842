#!/usr/bin/env python3
"""The ways of Django's ORM on psycopg 3: django_ways.py THROUGH PLAIN"""

import urllib.parse

import django
import ways
from django.conf import settings
from django.db import connections, models, transaction
from django.db.models import Count

FIELDS = {
    "bool": models.BooleanField, "int2": models.SmallIntegerField, "int4": models.IntegerField, "int8": models.BigIntegerField,
    "float8": models.FloatField, "numeric": lambda **k: models.DecimalField(max_digits=12, decimal_places=2, **k),
    "text": models.TextField, "varchar": lambda **k: models.CharField(max_length=11, **k), "bytea": models.BinaryField,
    "date": models.DateField, "timestamptz": models.DateTimeField, "uuid": models.UUIDField, "jsonb": models.JSONField,
}
USED = {
    name: FIELDS[column["type"].split("(")[0]]
    for name, column in zip(ways.NAMES, ways.COLUMNS)
    if column["type"].split("(")[0] in FIELDS
}


def database(url):
    parts = urllib.parse.urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql", "HOST": parts.hostname, "PORT": parts.port, "USER": parts.username,
        "PASSWORD": parts.password, "NAME": parts.path.lstrip("/"),
    }


THROUGH, PLAIN = ways.urls()
settings.configure(DATABASES={"default": database(PLAIN), "through": database(THROUGH), "plain": database(PLAIN)}, USE_TZ=True)
django.setup()


class Every(models.Model):
    id = models.IntegerField(primary_key=True)
    for name, field in USED.items():
        locals()[name] = field(null=True)
    del name, field

    class Meta:
        app_label = "drivers"
        db_table = "every"
        managed = False


def sqlstate(error):
    return getattr(error.__cause__, "sqlstate", None)


def rows(alias):
    return [list(row) for row in Every.objects.using(alias).order_by("id").values_list("id", *USED)]


def literals(alias):
    with connections[alias].cursor() as cursor:
        for row in range(ways.ROWS):
            cursor.execute(ways.insert_literals(row))
    Every.objects.using(alias).create(id=99)
    return rows(alias)


def objects(alias):
    literals(alias)
    found = list(Every.objects.using(alias).order_by("id"))
    Every.objects.using(alias).all().delete()
    return found


def save(alias):
    for each in objects(alias):
        each.save(using=alias, force_insert=True)
    return rows(alias)


def bulk_create(alias):
    Every.objects.using(alias).bulk_create(objects(alias))
    return rows(alias)


def bulk_update(alias):
    literals(alias)
    found = list(Every.objects.using(alias).order_by("id"))
    for each in found:
        each.c7 = f"changed {each.id}"
    Every.objects.using(alias).bulk_update(found, ["c7"])
    return rows(alias)


def update_or_create(alias):
    literals(alias)
    Every.objects.using(alias).update_or_create(id=0, defaults={"c7": "new"})
    Every.objects.using(alias).filter(id=1).update(c7="other")
    return rows(alias)


def filters(alias):
    return filtered(alias, [name for name in USED if USED[name] is not models.BooleanField])


def filter_boolean(alias):
    """Which Django writes as the column by itself."""
    return filtered(alias, [name for name in USED if USED[name] is models.BooleanField])


def filtered(alias, names):
    found = []
    literals(alias)
    for each in Every.objects.using(alias).exclude(id=99).order_by("id"):
        for name in names:
            if name in ways.SEARCHED:
                found.append(list(Every.objects.using(alias).filter(**{name: getattr(each, name)}).order_by("id").values_list("id", flat=True)))
    return found


def in_list(alias):
    literals(alias)
    found = []
    for name in USED:
        if name in ways.SEARCHED:
            values = list(Every.objects.using(alias).exclude(id=99).values_list(name, flat=True))
            found.append(list(Every.objects.using(alias).filter(**{f"{name}__in": values}).order_by("id").values_list("id", flat=True)))
    return found


def nulls(alias):
    literals(alias)
    return [list(Every.objects.using(alias).filter(**{f"{name}__isnull": True}).values_list("id", flat=True)) for name in USED]


def annotate(alias):
    literals(alias)
    return sorted((row["c7"] or "", row["n"]) for row in Every.objects.using(alias).values("c7").annotate(n=Count("id")))


def iterator(alias):
    literals(alias)
    return [[getattr(each, name) for name in USED] for each in Every.objects.using(alias).order_by("id").iterator(chunk_size=2)]


def contains(alias):
    literals(alias)
    return list(Every.objects.using(alias).filter(c7__contains="ada").values_list("id", flat=True))


def unique(alias):
    literals(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(ways.insert_literals(0).replace("(0,", "(70,"))


WAYS = [
    ("literals", literals),
    ("save", save),
    ("bulk_create", bulk_create),
    ("bulk_update", bulk_update),
    ("update_or_create and update", update_or_create),
    ("filter", filters),
    ("filter of a boolean", filter_boolean),
    ("filter __in", in_list),
    ("filter __isnull", nulls),
    ("values and annotate", annotate),
    ("iterator (server-side cursor)", iterator),
    ("filter __contains", contains),
    ("SQLSTATE of a duplicate", unique),
]


class Undo(Exception):
    pass


def undone(way):
    def run(alias):
        given = []
        try:
            with transaction.atomic(using=alias):
                given.append(way(alias))
                raise Undo
        except Undo:
            return given[0]

    return run


ways.Comparison(sqlstate).compare([(name, undone(way)) for name, way in WAYS], "through", "plain")
