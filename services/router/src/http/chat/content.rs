//! Content beyond text: pictures, sounds and documents, inline or by address.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use tutti_error::{Error, Reason, Result};
use tutti_proto::llm::v1::{Audio, File, Image, Part, file, image, part::Kind};

use super::request::{ContentPart, ImageUrl, InputAudio, InputFile};

/// Takes base64 with and without its padding.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One part of a message; `path` is its place in the request.
///
/// # Errors
/// INVALID_REQUEST or UNSUPPORTED naming the field.
pub(super) fn part(part: ContentPart, path: &str) -> Result<Part> {
    let missing = |what: &str| Error::invalid(format!("{path}.{what}"), "is required");
    let kind = match part.kind.as_str() {
        "text" => Kind::Text(part.text.ok_or_else(|| missing("text"))?),
        "refusal" => Kind::Text(part.refusal.ok_or_else(|| missing("refusal"))?),
        "image_url" => Kind::Image(picture(part.image_url.ok_or_else(|| missing("image_url"))?, path)?),
        "input_audio" => Kind::Audio(sound(&part.input_audio.ok_or_else(|| missing("input_audio"))?, path)?),
        "file" => Kind::File(document(part.file.ok_or_else(|| missing("file"))?, path)?),
        "" => return Err(missing("type")),
        _ => return Err(Error::invalid(format!("{path}.type"), "must be text, image_url, input_audio or file")),
    };
    Ok(Part { kind: Some(kind), cache_hint: None })
}

fn picture(picture: ImageUrl, path: &str) -> Result<Image> {
    let path = format!("{path}.image_url.url");
    let detail = picture.detail.unwrap_or_default();
    match data_uri(&picture.url, &path)? {
        Some((media_type, data)) => Ok(Image { media_type, detail, source: Some(image::Source::Data(data)) }),
        None if is_address(&picture.url) => {
            let source = Some(image::Source::Url(picture.url));
            Ok(Image { media_type: String::new(), detail, source })
        }
        None => Err(Error::invalid(path, "must be an https address or a data: URI")),
    }
}

fn sound(sound: &InputAudio, path: &str) -> Result<Audio> {
    let media_type = match sound.format.as_str() {
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => return Err(Error::invalid(format!("{path}.input_audio.format"), "must be wav or mp3")),
    };
    let data = decode(&sound.data, &format!("{path}.input_audio.data"))?;
    Ok(Audio { data, media_type: media_type.to_owned() })
}

fn document(document: InputFile, path: &str) -> Result<File> {
    if document.file_id.is_some() {
        let error = Error::new(Reason::Unsupported, "there is no store of uploaded files");
        return Err(error.field(format!("{path}.file.file_id"), "send file_data"));
    }
    let path = format!("{path}.file.file_data");
    let data = document.file_data.ok_or_else(|| Error::invalid(&path, "is required"))?;
    let filename = document.filename.unwrap_or_default();
    match data_uri(&data, &path)? {
        Some((media_type, data)) => Ok(File { media_type, filename, source: Some(file::Source::Data(data)) }),
        None if is_address(&data) => {
            let media_type = "application/pdf".to_owned();
            Ok(File { media_type, filename, source: Some(file::Source::Url(data)) })
        }
        None => Err(Error::invalid(path, "must be a data: URI such as data:application/pdf;base64,…")),
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The media type and the bytes of a `data:` URI; `None` for anything else.
fn data_uri(text: &str, path: &str) -> Result<Option<(String, Bytes)>> {
    let Some(rest) = text.strip_prefix("data:") else { return Ok(None) };
    let Some((media_type, data)) = rest.split_once(";base64,") else {
        return Err(Error::invalid(path, "a data: URI must be in base64"));
    };
    // Parameters such as a charset say nothing to a model.
    let media_type = media_type.split(';').next().unwrap_or_default();
    Ok(Some((media_type.to_owned(), decode(data, path)?)))
}

fn decode(text: &str, path: &str) -> Result<Bytes> {
    match BASE64.decode(text) {
        Ok(data) if data.is_empty() => Err(Error::invalid(path, "is empty")),
        Ok(data) => Ok(data.into()),
        Err(wrong) => Err(Error::invalid(path, format!("is not base64: {wrong}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Kind> {
        let read = serde_json::from_value(value).unwrap();
        part(read, "messages[0].content[0]").map(|part| part.kind.unwrap())
    }

    #[test]
    fn media_come_inline_or_by_address() {
        let inline = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}});
        let Kind::Image(image) = read(inline).unwrap() else { panic!("not a picture") };
        assert_eq!((image.media_type.as_str(), image.detail.as_str()), ("image/png", "low"));
        assert_eq!(image.source, Some(image::Source::Data(Bytes::from_static(b"hi"))));
        let far = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
        assert!(matches!(read(far).unwrap(), Kind::Image(Image { source: Some(image::Source::Url(_)), .. })));
        let sound = json!({"type": "input_audio", "input_audio": {"data": "aGk", "format": "mp3"}});
        assert!(matches!(read(sound).unwrap(), Kind::Audio(audio) if audio.media_type == "audio/mpeg"));
        let file =
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}});
        assert!(matches!(read(file).unwrap(), Kind::File(file) if file.filename == "a.pdf"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, field) in [
            (json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,*"}}), "image_url.url"),
            (json!({"type": "image_url", "image_url": {"url": "ftp://x"}}), "image_url.url"),
            (json!({"type": "input_audio", "input_audio": {"data": "aGk", "format": "ogg"}}), "input_audio.format"),
            (json!({"type": "file", "file": {"file_id": "f1"}}), "file.file_id"),
            (json!({"type": "hologram"}), "type"),
            (json!({"type": "text"}), "text"),
        ] {
            let error = read(value).unwrap_err();
            assert_eq!(error.fields()[0].0, format!("messages[0].content[0].{field}"));
        }
    }
}
