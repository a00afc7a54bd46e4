//! Archives and caches that are not as they should be.

use super::*;

#[test]
fn a_damaged_archive_is_named_with_its_entry() {
    let (data, cache) = tiny();
    let none = PixelCache::at(cache.path());
    let path = data.path().join("omniglot/images_background.zip");
    let whole = fs::read(&path).unwrap();
    let message = || message(open(data.path(), &none, &ask()));

    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(
        message().contains("images_background.zip: not a readable zip"),
        "{}",
        message()
    );
    assert!(message().ends_with("copy or download it again"));

    let [mut files, _] = tiny::sets();
    files[4].1.truncate(40);
    tiny::pack(&path, &files);
    assert!(
        message()
            .contains("images_background.zip/images_background/A/character03/0000_01.png: not a readable")
    );

    // A bit flipped inside an entry: its checksum tells.
    let mut flipped = whole.clone();
    flipped[120] ^= 0x10;
    fs::write(&path, flipped).unwrap();
    assert!(message().contains("images_background.zip/images_background/A/character01/0000_01.png: "));

    let small = tiny::set("images_background", &["A"], 1, 1);
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(28, 28)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    tiny::pack(&path, &vec![(small[0].0.clone(), bytes.into_inner())]);
    assert!(
        message().contains("expected a drawing of 105x105 pixels, found 28x28"),
        "{}",
        message()
    );

    tiny::pack(&path, &vec![("readme.txt".to_owned(), b"hello".to_vec())]);
    assert!(message().contains("images_background.zip: no alphabet/characterNN/drawing.png in it"));
    tiny::pack(
        &path,
        &vec![("images_background/one.png".to_owned(), b"hello".to_vec())],
    );
    assert!(
        message().contains("one.png: expected alphabet/characterNN/drawing.png"),
        "{}",
        message()
    );
    let twice = tiny::set("images_background", &["X"], 1, 1);
    tiny::pack(&path, &twice);
    assert!(message().contains("X/character01/0000_01.png: this character is in the background set, too"));
}

#[test]
fn the_cache_is_used_and_rebuilt_when_damaged_or_stale() {
    let (data, folder) = tiny();
    let cache = PixelCache::at(folder.path());
    let fresh = all_images(&open(data.path(), &cache, &ask()).unwrap());
    let file = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = fs::read(&file).unwrap();

    // It is the cache that is read: another ink with a right checksum shows.
    let identity_end = good.len() - 4 - 24 * 2 * 784;
    let mut inked = good[..identity_end].to_vec();
    inked.resize(good.len() - 4, 255);
    inked.extend(crc32fast::hash(&inked).to_le_bytes());
    fs::write(&file, &inked).unwrap();
    let read = all_images(&open(data.path(), &cache, &ask()).unwrap());
    assert!(read.iter().flatten().all(|&value| value == 1.0));

    // One bit of it wrong: the same pixels as at first, and a good file again.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&file, bad).unwrap();
    assert_eq!(all_images(&open(data.path(), &cache, &ask()).unwrap()), fresh);
    assert_eq!(fs::read(&file).unwrap(), good);

    // Another drawing in the archive: its pixels, in the same file.
    let [mut files, _] = tiny::sets();
    files[1].1 = tiny::png(|_, _| true);
    tiny::pack(&data.path().join("omniglot/images_background.zip"), &files);
    let changed = all_images(&open(data.path(), &cache, &ask()).unwrap());
    assert_eq!(changed[0], vec![1.0; 784]);
    assert_eq!(changed[1], fresh[1]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without_and_said() {
    let (data, folder) = tiny();
    // A file where the folder should be: no user, however mighty, can write into it.
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let dataset = open(data.path(), &PixelCache::at(blocked.join("cache")), &ask()).unwrap();
    assert_eq!(counts(&dataset), [(60, 20), (3, 1), (6, 2)]);
    let last = dataset.warnings().last().unwrap();
    assert!(
        last.contains("the cache can't be written") && last.contains("set KSHOT_CACHE"),
        "{last}"
    );
}
