/**
 * The server's sentences in the person's language. It speaks English; what is not known here stays as it came, and
 * where only the code is known the page keeps the English sentence as a title.
 */

import { currentLanguage } from "./words";

type Written = (...found: string[]) => string;

/** By code: what was set aside or refused, why nothing could be started, and what archives answer. */
export const BY_CODE: Record<string, string> = {
  directory: "디스크의 목차 파일입니다. 안의 파일은 하나씩 읽습니다.",
  report: "영상이 아니라 구조화 보고서입니다.",
  document: "영상이 아니라 문서입니다.",
  presentation_state: "영상이 아니라 표시 방법에 대한 정보입니다.",
  segmentation: "촬영 영상이 아니라 분할 결과입니다.",
  spectroscopy: "영상이 아니라 분광(MRS) 자료입니다.",
  raw_data: "영상이 아니라 원자료입니다.",
  secondary_capture: "화면을 저장한 그림으로, 공간상의 위치가 없습니다.",
  not_mr: "MR 영상이 아닙니다.",
  colour: "다른 영상에서 만든 컬러 영상입니다.",
  localizer: "촬영 위치를 정하기 위한 로컬라이저입니다.",
  derived_map: "다른 영상에서 계산한 지도입니다.",
  projection: "다른 영상의 투영(MIP 등)입니다.",
  time_series: "여러 시점을 촬영한 시리즈입니다.",
  not_an_image: "영상이 아닙니다.",
  not_dicom: "DICOM이나 NIfTI 파일이 아닙니다.",
  not_nifti: "NIfTI 파일이 아니거나 헤더가 손상되었습니다.",
  malformed: "DICOM 헤더가 손상되었습니다.",
  compression_unsupported: "지원하지 않는 압축 방식입니다.",
  undecodable: "픽셀을 읽을 수 없습니다.",
  no_geometry: "공간상의 위치 정보가 없거나 손상되었습니다.",
  not_greyscale: "8비트나 16비트 회색조 영상이 아닙니다.",
  mosaic_unsupported: "모자이크 영상이지만 각 단면의 위치를 알 수 없습니다.",
  repeated_positions: "같은 위치에 단면이 여러 장 있고 서로 구별할 수 없습니다.",
  uneven_slices: "단면 간격이 고르지 않습니다. 단면이 빠졌을 수 있습니다.",
  missing_slices: "단면이 빠져 있습니다.",
  duplicate_instance: "같은 영상이 다른 내용으로 두 번 들어 있습니다.",
  sheared_slices: "단면이 서로 어긋나 있어 볼륨을 만들 수 없습니다.",
  too_few_slices: "단면이 너무 적습니다.",
  too_thin: "머리를 촬영한 영상으로는 너무 얇습니다.",
  too_large: "영상이 너무 큽니다.",
  truncated: "파일이 끝까지 전송되지 않았거나 손상되었습니다.",
  not_3d: "3차원 영상 하나가 필요합니다. 4차원 파일은 나누어 올리세요.",
  not_real: "값이 일반 숫자가 아닙니다.",
  not_finite: "값 가운데 숫자가 아닌 것이 있습니다.",
  no_orientation: "방향 정보가 없어 좌우를 알 수 없습니다.",
  affine_singular: "공간 정보가 올바르지 않습니다.",
  constant: "영상의 값이 모두 같습니다.",
  empty: "영상이 거의 비어 있습니다.",
  no_overlap: "다른 시리즈와 겹치지 않는 위치를 촬영했습니다.",
  archive_damaged: "압축 파일이 손상되었거나 지원하지 않는 형식입니다.",
  archive_encrypted: "압축 파일이 암호화되어 있습니다.",
  archive_too_large: "압축을 풀면 허용된 크기를 넘습니다.",
  archive_unsafe: "압축 파일 안에 링크나 안전하지 않은 이름이 있습니다.",
  series_conflict: "같은 시리즈가 다른 내용으로 이미 저장되어 있습니다.",
  nothing_readable: "읽을 수 있는 시리즈가 없습니다.",
  storage_full: "저장 공간이 부족합니다. 저장된 것은 없으니 다시 시도할 수 있습니다.",
  sequences_unclear: "어느 시리즈가 어느 시퀀스인지 분명하지 않습니다. 위에서 지정하세요.",
  queue_full: "대기 중인 분석이 너무 많습니다. 잠시 후 다시 시도하세요.",
  not_allowed: "권한이 없습니다.",
  result_invalid: "워커의 결과가 검증을 통과하지 못했습니다.",
  oom: "이 영상을 분석하기에는 워커의 메모리가 부족합니다.",
  archive_failed: "PACS가 요청을 처리하지 못했습니다.",
  archive_away: "PACS가 응답하지 않습니다.",
  archive_denied: "PACS가 계정이나 비밀번호를 받아들이지 않습니다.",
  archive_busy: "PACS에서 요청을 처리하다 실패했습니다.",
  archive_refused: "PACS가 요청을 거부했습니다.",
  archive_unclear: "PACS의 응답을 이해할 수 없습니다.",
  archive_too_much: "PACS의 응답이 허용된 크기를 넘습니다.",
  archive_secret_lost: "저장된 PACS 비밀번호를 읽을 수 없습니다. 관리자에게 문의하세요.",
  archive_cannot_search: "이 PACS는 검색할 수 없습니다.",
  archive_not_found: "그 이름의 PACS가 없습니다.",
  not_in_archive: "PACS에 그 검사가 없습니다.",
  search_too_wide: "검색 범위가 너무 넓습니다. 조건을 더 입력하세요.",
  nothing_to_send: "보낼 DICOM 결과가 없습니다. NIfTI로 올린 영상입니다.",
};

const LOOKS: Record<string, string> = {
  "fluid is dark and white matter is the brightest tissue": "뇌척수액이 어둡고 백질이 가장 밝습니다",
  "fluid is dark and vessels are bright": "뇌척수액이 어둡고 혈관이 밝습니다",
  "fluid is bright": "뇌척수액이 밝습니다",
  "fluid is dark and grey matter is brighter than white matter": "뇌척수액이 어둡고 회백질이 백질보다 밝습니다",
};

/** By the sentence itself, where there is no code or the code says less. */
const BY_PATTERN: readonly (readonly [RegExp, Written])[] = [
  [
    /^(.+?) (?:is|are) missing, and neither a worker/,
    (names) => `${list(names)} 시퀀스가 없으며, 없이도 분석할 수 있는 모델이 없습니다.`,
  ],
  [/^Analysed without (.+), by a model made/, (names) => `${list(names)} 없이, 그에 맞는 모델로 분석했습니다.`],
  [
    /^The series given as (\w+) looks like (\w+), and the one given/,
    (given, like) => `${given}와 ${like}가 서로 바뀐 것 같습니다.`,
  ],
  [
    /^The series given as (\w+) looks like (\w+)(?:: (.+?))?\.?$/,
    (given, like, why) => because(`${given}로 지정된 시리즈가 ${like}처럼 보입니다.`, why),
  ],
  [/^Told by the images alone: (.+)\.$/, (why) => because("영상만 보고 판단했습니다.", why)],
  [/^The images look like T1; whether after contrast/, () => "T1처럼 보이지만 조영 후인지는 분명하지 않습니다."],
  [
    /^What this is is not clear; the images look most like (\w+)/,
    (like) => `분명하지 않지만 ${like}와 가장 비슷합니다.`,
  ],
  [/^T1 and T1CE were told apart by/, () => "T1과 T1CE를 혈관 밝기만으로 구분했습니다. 확인하세요."],
  [
    /^It lies at the same position as (.+), and nothing/,
    (name) => `${name}와 같은 위치에 있고 서로 구별할 수 없습니다.`,
  ],
  [
    /are ([\d.]+) mm apart, but ([\d.]+) mm between (.+) and (.+): a slice may be missing/,
    (usual, gap, one, other) =>
      `단면 간격이 ${usual} mm인데 ${one}와 ${other} 사이는 ${gap} mm입니다. 단면이 빠졌을 수 있습니다.`,
  ],
  [
    /^(\w+) was turned by (\d+) degrees and moved by (\d+) mm/,
    (name, turn, shift) => `기준 영상에 맞추기 위해 ${name}를 ${turn}° 회전하고 ${shift} mm 이동했습니다.`,
  ],
  [
    /^(\w+) fits the series the mask is for badly/,
    (name) => `${name}가 기준 영상과 잘 맞지 않아 결과의 신뢰도가 낮습니다.`,
  ],
  [/^(\w+) covers only (\d+)% of the series/, (name, share) => `${name}가 기준 영상의 ${share} %만 포함합니다.`],
  [/^(\w+) and (\w+) are the same images/, (one, other) => `${one}와 ${other}가 같은 영상입니다.`],
  [
    /^The scans show (\d+) mL, more than a brain/,
    (ml) => `영상에 ${ml} mL가 보입니다. 두개골이 포함되어 결과의 신뢰도가 낮습니다.`,
  ],
  [/^The brain was looked for in (\w+), not in T1/, (name) => `T1이 아니라 ${name}에서 뇌 영역을 찾았습니다.`],
  [
    /^It is not known which model measured the earlier/,
    () => "이전 검사를 측정한 모델을 알 수 없어 변화의 일부는 모델 차이일 수 있습니다.",
  ],
  [
    /^The earlier study was measured by (.+), this one by (.+): part/,
    (before, now) =>
      `이전 검사는 ${before}, 이번 검사는 ${now} 모델로 측정했습니다. 변화의 일부는 모델 차이일 수 있습니다.`,
  ],
];

const because = (line: string, why: string | undefined): string =>
  why && LOOKS[why] ? `${line} ${LOOKS[why]}.` : line;
const list = (names: string): string => names.replace(/,? and /, ", ");

/** `sentence` as the person reads it. */
export function told(sentence: string, code = ""): string {
  if (currentLanguage() === "en") return sentence;
  for (const [pattern, written] of BY_PATTERN) {
    const found = pattern.exec(sentence);
    if (found) return written(...found.slice(1));
  }
  return BY_CODE[code] ?? sentence;
}
