"""Files to views: photos, folders, zips, videos and posed data sets."""

from da3gs.photos.loading import load_photos as load_photos
from da3gs.photos.loading import load_views as load_views
from da3gs.photos.records import Dropped as Dropped
from da3gs.photos.records import Kind as Kind
from da3gs.photos.records import LoadedPhotos as LoadedPhotos
from da3gs.photos.records import Original as Original
from da3gs.photos.records import Photo as Photo
from da3gs.photos.records import Placement as Placement
from da3gs.photos.records import SparsePoints as SparsePoints
