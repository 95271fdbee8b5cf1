"""Where scenes lie: camera polynomials, tiles of Sentinel-2, boxes, polygons of regions."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
from shapely import box

from benchmarks.prepared.boundaries import read_boundaries
from benchmarks.prepared.boxes import box_around, sentinel2_tile
from benchmarks.prepared.raw import RawTree
from benchmarks.prepared.rpc import RpcPlace, read_rpb
from tests.fbp_files import SEATS, ground, write_boundaries, write_rpb

SIZE = {"height": 6908, "width": 7300}
PLACE = (114.3, 30.6)


def camera(folder: Path) -> RpcPlace:
    (file,) = RawTree(folder).files
    return read_rpb(file)


def test_the_footprint_of_an_affine_camera_is_the_closed_form(tmp_path: Path) -> None:
    write_rpb(tmp_path / "scene.rpb", *PLACE, **SIZE)
    place = camera(tmp_path)
    assert (place.method, place.centre) == ("rpc", PLACE)
    for row, col, height, width in ((0, 0, 6908, 7300), (54, 60, 512, 512), (6710, 7228, 144, 32)):
        pixels = [(row, col), (row, col + width), (row + height, col + width), (row + height, col)]
        corners = [ground(*PLACE, *pixel, **SIZE) for pixel in pixels]
        np.testing.assert_allclose(place.footprint(row, col, height, width), corners, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sampOffset", "sampOff", "no whole set"),
        ("-1.000000000000000E+00,", "", "no whole set"),
        ("latScale = 0.15", "latScale = -0.15", "back to their own centre"),
        ("+1.000000000000000E+00", "+0.000000000000000E+00", "back to their own centre"),
        ("sampNumCoef = (", "sampNumCoef = (5,", "back to their own centre"),
        ("BEGIN", "<html>", "no whole set"),
    ],
    ids=["field", "coefficients", "scale", "singular", "shifted", "page"],
)
def test_damaged_camera_files_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "scene.rpb"
    write_rpb(path, *PLACE, **SIZE)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=words) as error:
        camera(tmp_path)
    assert str(path) in str(error.value)
    assert "coordinate file" in str(error.value)


@pytest.mark.parametrize(
    ("tile", "epsg", "corner"),
    [
        ("50TMK", 32650, (399_960, 4_500_000)),
        ("49QGF", 32649, (699_960, 2_600_040)),
        ("31UFS", 32631, (600_000, 5_700_000)),
        ("53HNA", 32753, (499_980, 6_100_000)),
        ("51LYD", 32751, (699_960, 8_400_040)),
    ],
)
def test_tiles_of_sentinel2_lie_where_its_metadata_say(tile: str, epsg: int, corner: tuple[int, int]) -> None:
    place = sentinel2_tile(tile)
    assert place.method == "mgrs"
    to_grid = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    left, top = corner
    right, bottom = left + 109_800, top - 109_800
    expected = [(left, top), (right, top), (right, bottom), (left, bottom)]
    np.testing.assert_allclose([to_grid.transform(*c) for c in place.corners], expected, rtol=0, atol=0.02)
    assert place.footprint(0, 0, 512, 512) == place.footprint(5000, 5000, 512, 512) == place.corners


@pytest.mark.parametrize("tile", ["61TMK", "00TMK", "50IMK", "50TAK", "50TMW", "xxTMK"])
def test_there_is_no_such_tile(tile: str) -> None:
    with pytest.raises(ValueError, match=tile):
        sentinel2_tile(tile)


def test_a_box_reaches_as_far_on_every_side() -> None:
    corners = box_around(114.4, 30.5, 20, "name").corners
    earth = pyproj.Geod(ellps="WGS84")
    (west, north), (east, south) = corners[0], corners[2]
    for lon, lat in ((114.4, north), (114.4, south), (west, 30.5), (east, 30.5)):
        assert earth.inv(114.4, 30.5, lon, lat)[2] == pytest.approx(20_000, rel=0.005)


def test_a_place_has_the_region_around_it_and_hears_of_neighbours(tmp_path: Path) -> None:
    regions = read_boundaries(write_boundaries(tmp_path / "adm2.geojson"), "auto")
    inside = regions.at(115.9, 38.8)
    assert inside
    assert (inside.region, inside.km) == ("Baoding", 0)
    (name, km), (second, farther) = inside.near
    metres = pyproj.Geod(ellps="WGS84").inv(115.9, 38.8, 115.955, 38.8)[2]
    assert (name, km) == ("Cangzhou", pytest.approx(metres / 1000, rel=1e-3))
    assert (second, round(farther)) == ("Lángfāng Municipality", 36)
    at_sea = regions.at(118.09, 23.9)
    assert at_sea
    assert (at_sea.region, at_sea.near) == ("Xiamen", ())
    assert at_sea.km == pytest.approx(0.08 * 110.77, rel=0.02)
    for nowhere in ((140.0, 10.0), (118.09, 23.4)):  # the second lies 64 km off Xiamen
        assert regions.at(*nowhere) is None


def test_other_editions_of_boundaries(tmp_path: Path) -> None:
    """A GeoPackage of two levels, a zipped shapefile with short fields in another system, and a field by name."""
    fine = gpd.GeoDataFrame({"NAME_2": ["a"], "NAME_3": ["b"]}, geometry=[box(115, 38, 116, 39)], crs=4326)
    package = tmp_path / "gadm.gpkg"
    fine.to_file(package, layer="ADM_ADM_3")
    write_boundaries(package, field="NAME_2", layer="ADM_ADM_2")
    shape = write_boundaries(tmp_path / "adm2.shz", field="adm2_en")
    turned = tmp_path / "turned.shp"
    gpd.read_file(package, layer="ADM_ADM_2").to_crs(3857).to_file(turned)
    both = tmp_path / "both.geojson"
    frame = gpd.read_file(package, layer="ADM_ADM_2")
    frame.assign(shapeName="wrong").to_file(both)
    for path, field in ((package, "auto"), (shape, "auto"), (turned, "auto"), (both, "NAME_2")):
        regions = read_boundaries(path, field)
        for name, seat in SEATS.items():
            found = regions.at(*seat)
            assert found
            assert found.region == name, path


def test_what_is_no_boundary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text("{")
    refuse(path, "auto", "cannot be read", "geoBoundaries")
    other = write_boundaries(tmp_path / "b.geojson", field="city")
    refuse(other, "auto", "no layers with a field shapeName or", "city")
    refuse(write_boundaries(tmp_path / "c.geojson"), "NAME_2", "field NAME_2 (fields: c: shapeName)")
    bare = tmp_path / "d.shp"
    write_boundaries(bare)
    bare.with_suffix(".prj").unlink()
    refuse(bare, "auto", "no coordinate system", ".prj")
    points = tmp_path / "e.geojson"
    gpd.GeoDataFrame({"name": ["x"]}, geometry=gpd.points_from_xy([115], [38]), crs=4326).to_file(points)
    refuse(points, "auto", "no polygons")


def refuse(path: Path, field: str, *words: str) -> None:
    with pytest.raises(ValueError, match="--boundaries") as error:
        read_boundaries(path, field)
    assert str(path) in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
