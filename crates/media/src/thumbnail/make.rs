//! Making a thumbnail: a pure function from bytes to bytes, within bounds of memory and time.
//!
//! What an image says of its size is believed only as far as the limits go, and looked at before anything is decoded.
//! Animations come out as GIF, the one moving format that can be written here.

use crate::Thumbnails;
use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, GenericImageView, ImageDecoder, ImageError, ImageFormat,
    ImageReader, Limits,
};
use records::ThumbnailKey;
use std::io::Cursor;

/// The quality of JPEG thumbnails.
const JPEG_QUALITY: u8 = 80;
/// How carefully colours of animations are chosen: from 1, slow, to 30.
const GIF_SPEED: i32 = 15;
/// How many bytes a pixel takes at most while it is decoded.
const PIXEL_BYTES_MAX: u64 = 8;
/// Above how many times its size an image is made smaller coarsely first.
const COARSE_FROM: u32 = 3;

/// What was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Nothing: the image is small enough.
    Itself { content_type: &'static str },
    /// A thumbnail.
    Smaller { content_type: &'static str, bytes: Vec<u8> },
}

/// Why there is no thumbnail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MakeError {
    /// The bytes are no image, or of a kind that can't be read.
    NotAnImage,
    /// The image is too large to be looked at.
    TooLarge,
}

impl From<ImageError> for MakeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            _ => Self::NotAnImage,
        }
    }
}

/// Makes a thumbnail. Takes as long as the limits allow: not for async threads.
pub(super) fn make(source: &[u8], wanted: ThumbnailKey, limits: &Thumbnails) -> Result<Made, MakeError> {
    let format = image::guess_format(source)?;
    let content_type = content_type(format).ok_or(MakeError::NotAnImage)?;
    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    reader.limits(bounds(limits));
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(MakeError::NotAnImage);
    }
    if pixels > limits.source_pixels_max {
        return Err(MakeError::TooLarge);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // What is asked for is meant for the image as it is shown.
    let is_turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (box_width, box_height) = if is_turned { (wanted.height, wanted.width) } else { (wanted.width, wanted.height) };
    let fits = width <= box_width && height <= box_height;
    let moves = is_animated(source, format, limits);
    if fits && (!moves || wanted.animated) {
        return Ok(Made::Itself { content_type });
    }
    let cut = Cut::new((width, height), (box_width, box_height), wanted.crop);
    if moves
        && wanted.animated
        && let Some(bytes) = animation(source, format, cut, limits)
    {
        return Ok(Made::Smaller { content_type: "image/gif", bytes });
    }
    let image = DynamicImage::from_decoder(decoder)?;
    let mut image = cut.apply(&image);
    image.apply_orientation(orientation);
    encode(&image)
}

/// What a format is called, if it is one that can be read.
fn content_type(format: ImageFormat) -> Option<&'static str> {
    match format {
        ImageFormat::Png => Some("image/png"),
        ImageFormat::Jpeg => Some("image/jpeg"),
        ImageFormat::Gif => Some("image/gif"),
        ImageFormat::WebP => Some("image/webp"),
        _ => None,
    }
}

/// What an image is, how wide and how high, by its head. `None`: it is none that can be read.
pub(crate) fn image_size(source: &[u8]) -> Option<(&'static str, u32, u32)> {
    let format = image::guess_format(source).ok()?;
    let content_type = content_type(format)?;
    let (width, height) = ImageReader::with_format(Cursor::new(source), format).into_dimensions().ok()?;
    Some((content_type, width, height))
}

fn bounds(limits: &Thumbnails) -> Limits {
    let mut bounds = Limits::default();
    // The decoder's own buffers come on top of the pixels.
    bounds.max_alloc = Some(limits.source_pixels_max.saturating_mul(PIXEL_BYTES_MAX).saturating_add(1 << 20));
    bounds
}

/// How an image is made smaller: to which size, and how much of that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    scaled: (u32, u32),
    kept: (u32, u32),
}

impl Cut {
    fn new((width, height): (u32, u32), (box_width, box_height): (u32, u32), crop: bool) -> Self {
        // The ratios of the sides, compared without fractions: which side decides.
        let is_wider = u64::from(width) * u64::from(box_height) > u64::from(height) * u64::from(box_width);
        let (numerator, denominator) = if is_wider == crop { (box_height, height) } else { (box_width, width) };
        // Never larger than it is.
        let (numerator, denominator) = if numerator >= denominator { (1, 1) } else { (numerator, denominator) };
        let scaled = |length: u32| {
            let scaled = (u64::from(length) * u64::from(numerator)).div_ceil(u64::from(denominator));
            u32::try_from(scaled).unwrap_or(length).max(1)
        };
        let scaled = (scaled(width), scaled(height));
        let kept = if crop { (scaled.0.min(box_width), scaled.1.min(box_height)) } else { scaled };
        Self { scaled, kept }
    }

    fn apply(self, image: &DynamicImage) -> DynamicImage {
        let (width, height) = self.scaled;
        let is_large = image.width() > COARSE_FROM * width && image.height() > COARSE_FROM * height;
        let scaled = if is_large {
            image.thumbnail_exact(width * 2, height * 2).resize_exact(width, height, FilterType::CatmullRom)
        } else if image.dimensions() == self.scaled {
            image.clone()
        } else {
            image.resize_exact(width, height, FilterType::CatmullRom)
        };
        if self.kept == self.scaled {
            return scaled;
        }
        let (kept_width, kept_height) = self.kept;
        scaled.crop_imm((width - kept_width) / 2, (height - kept_height) / 2, kept_width, kept_height)
    }
}

fn encode(image: &DynamicImage) -> Result<Made, MakeError> {
    let mut bytes = Vec::new();
    if image.color().has_alpha() && image.to_rgba8().pixels().any(|pixel| pixel.0[3] < u8::MAX) {
        image.to_rgba8().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        Ok(Made::Smaller { content_type: "image/png", bytes })
    } else {
        image.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
        Ok(Made::Smaller { content_type: "image/jpeg", bytes })
    }
}

/// The frames of an image; `None` if it is of a kind that has none.
fn frames<'a>(source: &'a [u8], format: ImageFormat, limits: &Thumbnails) -> Option<Frames<'a>> {
    let cursor = Cursor::new(source);
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(cursor).ok()?;
            decoder.set_limits(bounds(limits)).ok()?;
            Some(decoder.into_frames())
        }
        ImageFormat::WebP => {
            let decoder = WebPDecoder::new(cursor).ok()?;
            decoder.has_animation().then(|| decoder.into_frames())
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(cursor, bounds(limits)).ok()?;
            decoder.is_apng().ok()?.then(|| decoder.apng().ok()).flatten().map(AnimationDecoder::into_frames)
        }
        _ => None,
    }
}

fn is_animated(source: &[u8], format: ImageFormat, limits: &Thumbnails) -> bool {
    frames(source, format, limits).is_some_and(|frames| frames.take(2).flatten().count() == 2)
}

/// A smaller animation; `None` if it has too many pixels in all.
fn animation(source: &[u8], format: ImageFormat, cut: Cut, limits: &Thumbnails) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    {
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
        encoder.set_repeat(Repeat::Infinite).ok()?;
        let mut pixels = 0_u64;
        for frame in frames(source, format, limits)? {
            let frame = frame.ok()?;
            let delay = frame.delay();
            let image = DynamicImage::ImageRgba8(frame.into_buffer());
            pixels += u64::from(image.width()) * u64::from(image.height());
            if pixels > limits.animation_pixels_max {
                return None;
            }
            encoder.encode_frame(Frame::from_parts(cut.apply(&image).into_rgba8(), 0, 0, delay)).ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::config::ByteSize;
    use image::{Delay, Rgb, RgbImage, Rgba, RgbaImage};

    fn limits() -> Thumbnails {
        Thumbnails { source_bytes_max: ByteSize::mib(1), source_pixels_max: 1_000_000, ..Thumbnails::default() }
    }

    fn key(width: u32, height: u32, crop: bool) -> ThumbnailKey {
        ThumbnailKey { width, height, crop, animated: false }
    }

    fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn plain(width: u32, height: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([200, 30, 40])))
    }

    fn moving(width: u32, height: u32, frames: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        {
            let mut encoder = GifEncoder::new(&mut bytes);
            for n in 0..frames {
                let shade = Rgba([u8::try_from(n * 40).unwrap(), 0, 0, 255]);
                let image = RgbaImage::from_pixel(width, height, shade);
                let delay = Delay::from_numer_denom_ms(100, 1);
                encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).unwrap();
            }
        }
        bytes
    }

    fn made(source: &[u8], wanted: ThumbnailKey) -> (&'static str, DynamicImage) {
        match make(source, wanted, &limits()).unwrap() {
            Made::Smaller { content_type, bytes } => (content_type, image::load_from_memory(&bytes).unwrap()),
            Made::Itself { .. } => panic!("it was not made smaller"),
        }
    }

    #[test]
    fn a_scaled_image_keeps_its_aspect_and_a_cropped_one_takes_that_asked_for() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif] {
            let source = written(&plain(800, 400), format);
            assert_eq!(made(&source, key(96, 96, false)).1.dimensions(), (96, 48), "{format:?}");
            assert_eq!(made(&source, key(96, 96, true)).1.dimensions(), (96, 96), "{format:?}");
        }
        let tall = written(&plain(10, 500), ImageFormat::Png);
        assert_eq!(made(&tall, key(96, 96, true)).1.dimensions(), (10, 96), "it is never made larger");
        assert_eq!(made(&tall, key(96, 96, false)).1.dimensions(), (2, 96));
    }

    #[test]
    fn what_is_small_enough_is_shown_itself() {
        let source = written(&plain(30, 20), ImageFormat::Png);
        assert_eq!(make(&source, key(32, 32, false), &limits()), Ok(Made::Itself { content_type: "image/png" }));
        assert_eq!(make(&source, key(32, 32, true), &limits()), Ok(Made::Itself { content_type: "image/png" }));
    }

    #[test]
    fn what_is_seen_through_stays_so() {
        let glass = DynamicImage::ImageRgba8(RgbaImage::from_pixel(200, 200, Rgba([1, 2, 3, 90])));
        let (content_type, image) = made(&written(&glass, ImageFormat::Png), key(96, 96, false));
        assert_eq!((content_type, image.to_rgba8().get_pixel(5, 5).0[3]), ("image/png", 90));
        let opaque = DynamicImage::ImageRgba8(RgbaImage::from_pixel(200, 200, Rgba([1, 2, 3, 255])));
        assert_eq!(made(&written(&opaque, ImageFormat::Png), key(96, 96, false)).0, "image/jpeg");
    }

    #[test]
    fn an_image_lies_as_its_camera_was_held() {
        // Red to the left, blue to the right; its Exif says that it is to be turned to the right.
        let image = RgbImage::from_fn(400, 200, |x, _| if x < 200 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
        let jpeg = written(&DynamicImage::ImageRgb8(image), ImageFormat::Jpeg);
        let exif: &[u8] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let turned = [&jpeg[..2], &[0xff, 0xe1], &length, exif, &jpeg[2..]].concat();
        let (_, image) = made(&turned, key(96, 96, false));
        assert_eq!(image.dimensions(), (48, 96));
        let image = image.to_rgb8();
        assert!(image.get_pixel(24, 10).0[0] > 200 && image.get_pixel(24, 85).0[2] > 200);
    }

    #[test]
    fn an_animation_moves_only_if_it_is_asked_for() {
        let source = moving(200, 100, 3);
        let count = |bytes: &[u8]| GifDecoder::new(Cursor::new(bytes)).unwrap().into_frames().count();
        let wanted = ThumbnailKey { animated: true, ..key(96, 96, false) };
        let Made::Smaller { content_type, bytes } = make(&source, wanted, &limits()).unwrap() else { panic!() };
        assert_eq!((content_type, count(&bytes)), ("image/gif", 3));
        assert_eq!(made(&source, key(96, 96, false)).0, "image/jpeg");
        let small = moving(20, 10, 3);
        assert_eq!(make(&small, wanted, &limits()), Ok(Made::Itself { content_type: "image/gif" }));
        assert_eq!(made(&small, key(96, 96, false)).1.dimensions(), (20, 10));
        let tight = Thumbnails { animation_pixels_max: 50_000, ..limits() };
        let Made::Smaller { content_type, .. } = make(&source, wanted, &tight).unwrap() else { panic!() };
        assert_eq!(content_type, "image/jpeg");
        let still = moving(200, 100, 1);
        assert_eq!(made(&still, wanted).0, "image/jpeg");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        // A PNG that says it has 60,000 by 60,000 pixels.
        let mut bomb = written(&plain(2, 2), ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let result = make(&bomb, key(96, 96, false), &limits());
        assert!(matches!(result, Err(MakeError::TooLarge | MakeError::NotAnImage)), "{result:?}");
        let large = written(&plain(1001, 1000), ImageFormat::Gif);
        assert_eq!(make(&large, key(96, 96, false), &limits()), Err(MakeError::TooLarge));
    }

    #[test]
    fn what_is_no_image_has_no_thumbnail() {
        for source in [&b""[..], b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
        {
            assert_eq!(make(source, key(96, 96, false), &limits()), Err(MakeError::NotAnImage));
        }
        let whole = written(&plain(300, 300), ImageFormat::Png);
        assert_eq!(make(&whole[..whole.len() / 2], key(96, 96, false), &limits()), Err(MakeError::NotAnImage));
    }
}
